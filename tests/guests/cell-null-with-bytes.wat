;; Writes null and has bytes in it.
;; expect: no empty cell
(data (i32.const 24576) "null")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 1) (i32.const 4) (i32.const 4)))
