;; Writes half of a surrogate pair as if it were UTF-8.
;; expect: no UTF-8 text
(data (i32.const 24576) "\ed\a0\80")
(func $on_null (param $row i32) (call $write (local.get $row) (i32.const 4) (i32.const 3) (i32.const 3)))
