;; Copies half of its memory to and fro.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(func $on_null (param $row i32)
  (drop (memory.grow (i32.sub (i32.const 64) (memory.size))))
  (loop $ever
    (memory.copy (i32.const 65536) (i32.const 2097152) (i32.const 2031616))
    (memory.copy (i32.const 2097152) (i32.const 65536) (i32.const 2031616))
    (br $ever)))
