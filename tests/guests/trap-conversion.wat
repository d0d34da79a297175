;; Makes an integer of what is no number.
;; expect: invalid conversion to integer
(func $on_null (param $row i32) (drop (i32.trunc_f64_s (f64.const nan))))
