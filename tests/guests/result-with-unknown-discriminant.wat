;; Says of a detail neither that there is one nor that there is none.
;; expect: invalid option discriminant
(func $on_null (param $row i32)
  (call $reject (local.get $row) (i32.const 0) (i32.const 0) (i32.const 0))
  (i32.store8 offset=8 (global.get $rejections) (i32.const 7)))
