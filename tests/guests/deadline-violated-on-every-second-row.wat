;; Never comes to an end on every second row, so that each part of the batch takes too long.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; rows: 1 null 2 null 3 null 4
;; limit: deadline 100ms
(func $on_null (param $row i32) (loop $ever (br $ever)))
