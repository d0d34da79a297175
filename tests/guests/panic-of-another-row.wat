;; Says farewell in a batch that it judges. The row that it fails on next must not be blamed in these words.
;; expect: unreachable
;; never: a lie
;; rows: 1 null
(data (i32.const 24576) "a lie")
(func $on_batch
  (if (i32.ne (call $kind (i32.const 0)) (i32.const 1)) (then (call $log (i32.const 4) (global.get $scratch) (i32.const 5)))))
(func $on_null (param $row i32) (unreachable))
