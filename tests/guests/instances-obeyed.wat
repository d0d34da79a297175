;; A component with as many core instances as it may have.
;; culprits: none
;; instances: 7

