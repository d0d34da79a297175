;; Has as many tables as it may have, with the one that every component has.
;; culprits: none
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
(table 0 funcref)
