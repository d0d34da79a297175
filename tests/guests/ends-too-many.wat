;; Answers with one end more than there are rows.
;; expect: `y` breaks the contract
(func $on_null (param $row i32) (i32.store offset=12 (global.get $column) (i32.add (global.get $rows) (i32.const 1))))
