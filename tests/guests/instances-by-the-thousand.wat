;; A component with five thousand core instances.
;; where: start
;; expect: instances count exceeds limit of 1000
;; instances: 5000

