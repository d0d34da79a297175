;; Says that a cell ends at the last byte of 4 GiB.
;; expect: the cell ends at 4294967295
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 4) (i32.const -1) (i32.const 1)))
