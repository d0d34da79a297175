;; Says that a cell is absent and has bytes in it.
;; expect: no empty cell
(data (i32.const 24576) "1")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 0) (i32.const 1) (i32.const 1)))
