;; Takes all the memory that it may have, to the byte: 64 pages.
;; culprits: none
(func $on_null (param $row i32) (drop (memory.grow (i32.sub (i32.const 64) (memory.size)))))
