;; Divides by zero.
;; expect: divide by zero
(func $on_null (param $row i32) (drop (i32.div_u (i32.const 1) (i32.const 0))))
