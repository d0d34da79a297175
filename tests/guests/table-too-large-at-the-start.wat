;; Declares a table of ten million elements.
;; where: start
;; expect: wanted more table elements than the 20000 of rule.guest.tables
(table $large 10000000 funcref)
