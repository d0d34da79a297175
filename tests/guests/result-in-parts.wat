;; Judges one row at a time, and writes half a megabyte into each: no answer is too large, all of them together are.
;; culprits: none
;; rows: null*200
;; limit: result 1048576
(func $on_null (param $row i32)
  (if (i32.gt_u (global.get $rows) (i32.const 1)) (then (unreachable)))
  (drop (memory.grow (i32.const 10)))
  (memory.fill (global.get $scratch) (i32.const 97) (i32.const 500000))
  (call $write (local.get $row) (i32.const 4) (i32.const 500000) (i32.const 500000)))
