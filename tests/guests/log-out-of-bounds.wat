;; Logs what is past the end of its memory.
;; expect: out of bounds
(func $on_null (param $row i32) (call $log (i32.const 2) (i32.const -1) (i32.const 100)))
