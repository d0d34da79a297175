;; Writes a text that is nearly as large as all it may hand over.
;; culprits: none
;; limit: result 1048576
(func $on_null (param $row i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (global.get $scratch) (i32.const 97) (i32.const 1048000))
  (call $write (local.get $row) (i32.const 4) (i32.const 1048000) (i32.const 1048000)))
