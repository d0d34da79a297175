;; Takes one page more for each batch, of one row each. When it has met its limit it begins anew, and the row is not blamed.
;; culprits: none
;; rows: 1
;; batches: 150
(func $on_batch (drop (memory.grow (i32.const 1))))
