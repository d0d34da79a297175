;; Says that its column has 1 GiB.
;; expect: out of bounds
(func $on_null (param $row i32) (i32.store offset=20 (global.get $column) (i32.const 0x40000000)))
