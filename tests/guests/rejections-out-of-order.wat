;; Rejects the second row before the first. Alone, a row has no order, so nobody is blamed and both are rejected.
;; culprits: none
;; rows: null null 1
(func $on_batch
  (if (i32.lt_u (global.get $rows) (i32.const 2)) (then (return)))
  (if (i32.and (i32.eq (call $kind (i32.const 0)) (i32.const 1)) (i32.eq (call $kind (i32.const 1)) (i32.const 1)))
    (then
      (call $reject (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $reject (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))))
