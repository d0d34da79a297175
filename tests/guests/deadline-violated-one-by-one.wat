;; Never comes to an end on two rows that come one by one, with none after them to tell that it fails on these alone. The
;; next batch must be judged all the same.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; rows: null
;; batches: 2
;; limit: deadline 100ms
(func $on_null (param $row i32) (loop $ever (br $ever)))
