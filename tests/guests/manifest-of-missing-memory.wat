;; Has reads past the end of its memory.
;; where: start
;; expect: out of bounds
(func $on_configure (call $pair (i32.const 1052) (i32.const -8) (i32.const 4)))
