;; Fills a large table again and again.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(table $large 19000 funcref)
(func $on_null (param $row i32)
  (loop $ever
    (table.fill $large (i32.const 0) (ref.null func) (i32.const 19000))
    (br $ever)))
