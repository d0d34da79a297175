;; Has constants for a place that its memory has not.
;; where: start
;; expect: out of bounds memory access
(data (i32.const 131072) "!")
