;; Logs ten thousand lines of a level that is not logged, and then a warning, which must be.
;; culprits: none
;; logs: mind the gap
;; batches: 1
(data (i32.const 24576) "mind the gap")
(func $on_null (param $row i32)
  (local $left i32)
  (local.set $left (i32.const 10000))
  (loop $next
    (call $log (i32.const 0) (global.get $scratch) (i32.const 12))
    (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
  (call $log (i32.const 2) (global.get $scratch) (i32.const 12)))
