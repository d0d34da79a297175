;; Rejects a row for a reason that it has not declared.
;; expect: for reason 7, and declares 1
(func $on_null (param $row i32) (call $reject (local.get $row) (i32.const 7) (i32.const 0) (i32.const 0)))
