;; Divides the smallest integer by -1, which no integer can hold.
;; expect: integer overflow
(func $on_null (param $row i32) (drop (i32.div_s (i32.const 0x80000000) (i32.const -1))))
