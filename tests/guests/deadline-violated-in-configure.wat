;; Never ends being configured.
;; where: start
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(func $on_configure (loop $ever (br $ever)))
