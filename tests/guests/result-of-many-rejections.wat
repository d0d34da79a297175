;; Says that it has rejected fifty million rows.
;; expect: out of bounds
(func $on_null (param $row i32) (i32.store (i32.const 4) (i32.const 50000000)))
