;; Rejects a row twice.
;; expect: twice, out of order or out of range
(func $on_null (param $row i32)
  (call $reject (local.get $row) (i32.const 0) (i32.const 0) (i32.const 0))
  (call $reject (local.get $row) (i32.const 0) (i32.const 0) (i32.const 0)))
