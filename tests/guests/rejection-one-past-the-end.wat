;; Rejects the row after the last one.
;; expect: rejected row 1 of 1
(func $on_null (param $row i32) (call $reject (global.get $rows) (i32.const 0) (i32.const 0) (i32.const 0)))
