;; Says that it has so many rejections that their size in bytes overflows 32 bits.
;; expect: out of bounds
(func $on_null (param $row i32) (i32.store (i32.const 4) (i32.const 0x0ccccccd)))
