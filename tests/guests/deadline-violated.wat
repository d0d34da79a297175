;; Never comes to an end.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(func $on_null (param $row i32) (loop $ever (br $ever)))
