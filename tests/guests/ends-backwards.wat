;; Says that a cell ends before it begins.
;; expect: `y` breaks the contract
(func $on_null (param $row i32)
  (call $write (i32.const 0) (i32.const 4) (i32.const 5) (i32.const 5))
  (i32.store (call $end_of (local.get $row)) (i32.const 3))
  ;; Alone in its batch, the row has no cell before it.
  (if (i32.eqz (local.get $row)) (then (i32.store (call $end_of (i32.const 0)) (i32.const 6)))))
