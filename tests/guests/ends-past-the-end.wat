;; Says that a cell ends past the end of the bytes.
;; expect: the cell ends at 9
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 4) (i32.const 9) (i32.const 1)))
