;; Answers with two columns.
;; expect: answered with 2 columns and declares 1 writes
(func $on_null (param $row i32) (call $pair (i32.const 8) (global.get $column) (i32.const 2)))
