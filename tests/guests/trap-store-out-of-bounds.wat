;; Writes one byte past the end of its memory.
;; expect: out of bounds memory access
(func $on_null (param $row i32) (i32.store8 (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)))
