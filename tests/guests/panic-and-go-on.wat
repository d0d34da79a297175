;; Says farewell and stays. The next row it fails on must not be blamed in its words.
;; expect: unreachable
(global $said (mut i32) (i32.const 0))
(data (i32.const 24576) "a lie")
(func $on_batch
  (if (i32.eqz (global.get $said)) (then (call $log (i32.const 4) (global.get $scratch) (i32.const 5))))
  (global.set $said (i32.const 1)))
(func $on_null (param $row i32) (unreachable))
