;; Answers with an address at which only half of an outcome fits.
;; expect: out of bounds
(func $on_null (param $row i32) (global.set $outcome (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8))))
