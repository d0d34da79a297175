;; Rejects everything in every second batch.
;; culprits: any
;; batches: 9
(global $calls (mut i32) (i32.const 0))
(func $on_batch
  (local $row i32)
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 2)))
    (then
      (loop $next
        (call $reject (local.get $row) (i32.const 0) (i32.const 0) (i32.const 0))
        (local.set $row (i32.add (local.get $row) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $row) (global.get $rows)))))))
