;; Rejects a row that there is not.
;; expect: rejected row 4294967295 of 1
(func $on_null (param $row i32) (call $reject (i32.const -1) (i32.const 0) (i32.const 0) (i32.const 0)))
