;; Has eleven tables, one more than it may have.
;; where: start
;; expect: has more core instances, memories or tables than the 10 of rule.guest.instances
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
