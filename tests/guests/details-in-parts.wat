;; Judges one row at a time, and rejects each with a detail of half a megabyte.
;; culprits: rejected
;; rows: null*200
;; limit: result 1048576
(func $on_null (param $row i32)
  (if (i32.gt_u (global.get $rows) (i32.const 1)) (then (unreachable)))
  (drop (memory.grow (i32.const 10)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 500000))
  (call $reject (local.get $row) (i32.const 0) (i32.const 65536) (i32.const 500000)))
