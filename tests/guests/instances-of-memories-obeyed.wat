;; Has as many memories as it may have.
;; culprits: none
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
(memory 0)
