;; Logs a million lines.
;; culprits: none
;; limit: deadline 10000ms
(data (i32.const 24576) "buy now")
(func $on_null (param $row i32)
  (local $left i32)
  (local.set $left (i32.const 1000000))
  (loop $next
    (call $log (i32.const 3) (global.get $scratch) (i32.const 7))
    (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
