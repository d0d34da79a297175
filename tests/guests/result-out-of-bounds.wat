;; Answers with an address past the end of its memory.
;; expect: out of bounds
(func $on_null (param $row i32) (global.set $outcome (i32.const -16)))
