;; Fails on every second batch, whatever is in it. There is no right answer; none of them may do harm.
;; expect: unreachable
;; culprits: any
;; batches: 9
(global $calls (mut i32) (i32.const 0))
(func $on_batch
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  (if (i32.eqz (i32.rem_u (global.get $calls) (i32.const 2))) (then (unreachable))))
