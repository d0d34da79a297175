;; Logs for ever.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(data (i32.const 24576) "buy now")
(func $on_null (param $row i32)
  (loop $ever
    (call $log (i32.const 3) (global.get $scratch) (i32.const 7))
    (br $ever)))
