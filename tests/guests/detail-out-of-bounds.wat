;; Rejects a row with a detail past the end of its memory.
;; expect: out of bounds
(func $on_null (param $row i32) (call $reject (local.get $row) (i32.const 0) (i32.const -8) (i32.const 100)))
