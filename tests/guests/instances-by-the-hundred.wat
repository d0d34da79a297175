;; A component with nine hundred core instances.
;; where: start
;; expect: has more core instances, memories or tables than the 10 of rule.guest.instances
;; instances: 900

