;; Never begins.
;; where: start
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(func $begin (loop $ever (br $ever)))
(start $begin)
