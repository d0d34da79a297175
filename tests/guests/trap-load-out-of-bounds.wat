;; Reads at the far end of the address space.
;; expect: out of bounds memory access
(func $on_null (param $row i32) (drop (i32.load (i32.const -4))))
