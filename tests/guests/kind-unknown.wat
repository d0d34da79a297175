;; Writes a cell of a kind that there is not.
;; expect: the kind is 9, which is none
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 9) (i32.const 0) (i32.const 0)))
