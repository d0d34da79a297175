;; Counts itself in a table and traps when it is asked again after a null. A new instance knows nothing of it.
;; expect: unreachable
;; culprits: any
;; batches: 4
(global $poisoned (mut i32) (i32.const 0))
(func $on_batch (if (global.get $poisoned) (then (unreachable))))
(func $on_null (param $row i32) (global.set $poisoned (i32.const 1)))
