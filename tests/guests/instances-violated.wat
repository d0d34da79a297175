;; A component with one core instance too many.
;; where: start
;; expect: has more core instances, memories or tables than the 10 of rule.guest.instances
;; instances: 8

